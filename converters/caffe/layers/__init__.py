"""Lowerings of Caffe's layers, by topic; importing this package fills `converters.caffe.table.lowers`."""

import converters.caffe.layers.activation
import converters.caffe.layers.arithmetic
import converters.caffe.layers.convolution
import converters.caffe.layers.detection
import converters.caffe.layers.linear
import converters.caffe.layers.losses
import converters.caffe.layers.normalisation
import converters.caffe.layers.pooling
import converters.caffe.layers.recurrent
import converters.caffe.layers.resampling
import converters.caffe.layers.shape
import converters.caffe.layers.sources  # noqa: F401
