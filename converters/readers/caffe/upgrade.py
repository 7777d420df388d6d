"""Older forms of a layer -> today's: V0 (`layers { layer { type: "conv" } }`) and V1 (`layers { type: CONVOLUTION }`).

Source: caffe/src/caffe/util/upgrade_proto.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from converters.errors import FormatError
from converters.readers.caffe.textformat import Unknown
from converters.schemas import caffe_pb2

V1_TYPES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ACCURACY": "Accuracy",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss",
    "CONVOLUTION": "Convolution",
    "DATA": "Data",
    "DECONVOLUTION": "Deconvolution",
    "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData",
    "ELTWISE": "Eltwise",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss",
    "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData",
    "INFOGAIN_LOSS": "InfogainLoss",
    "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN",
    "MEMORY_DATA": "MemoryData",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "MVN": "MVN",
    "POOLING": "Pooling",
    "POWER": "Power",
    "RELU": "ReLU",
    "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence",
    "SLICE": "Slice",
    "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPLIT": "Split",
    "TANH": "TanH",
    "THRESHOLD": "Threshold",
    "WINDOW_DATA": "WindowData",
}

# Names that forks gave to V1 layers; their numbers are other layers' in BVLC, and aren't read.
_FORKS_TYPES = {
    "BN": "BN",
    "CONVOLUTION3D": "Convolution3D",
    "CROP": "Crop",
    "DECONVOLUTION3D": "Deconvolution3D",
    "DENSE_IMAGE_DATA": "DenseImageData",
    "IMAGE_SEG_DATA": "ImageSegData",
    "INTERP": "Interp",
    "MAT_READ": "MatRead",
    "MAT_WRITE": "MatWrite",
    "MULTI_STAGE_MEANFIELD": "MultiStageMeanfield",
    "POOLING3D": "Pooling3D",
    "PRELU": "PReLU",
    "UPSAMPLE": "Upsample",
    "VIDEO_DATA": "VideoData",
    "VIDEO_SEGMENTATION_DATA": "VideoSegmentationData",
    "VOLUME_DATA": "VolumeData",
    "VOXEL_SOFTMAX": "VoxelSoftmax",
}

V0_TYPES = {
    "accuracy": "Accuracy",
    "bnll": "BNLL",
    "concat": "Concat",
    "conv": "Convolution",
    "data": "Data",
    "dropout": "Dropout",
    "euclidean_loss": "EuclideanLoss",
    "flatten": "Flatten",
    "hdf5_data": "HDF5Data",
    "hdf5_output": "HDF5Output",
    "im2col": "Im2col",
    "images": "ImageData",
    "infogain_loss": "InfogainLoss",
    "innerproduct": "InnerProduct",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MultinomialLogisticLoss",
    "pool": "Pooling",
    "relu": "ReLU",
    "sigmoid": "Sigmoid",
    "softmax": "Softmax",
    "softmax_loss": "SoftmaxWithLoss",
    "split": "Split",
    "tanh": "TanH",
    "window_data": "WindowData",
}

# V0's one flat message: field -> {type: where it went}. What isn't here is about data sets, which conversions don't read.
_V0_FIELDS: dict[str, dict[str, str]] = {
    "num_output": {"conv": "convolution_param.num_output", "innerproduct": "inner_product_param.num_output"},
    "biasterm": {"conv": "convolution_param.bias_term", "innerproduct": "inner_product_param.bias_term"},
    "weight_filler": {"conv": "convolution_param.weight_filler", "innerproduct": "inner_product_param.weight_filler"},
    "bias_filler": {"conv": "convolution_param.bias_filler", "innerproduct": "inner_product_param.bias_filler"},
    "pad": {"conv": "convolution_param.pad", "pool": "pooling_param.pad"},
    "kernelsize": {"conv": "convolution_param.kernel_size", "pool": "pooling_param.kernel_size"},
    "group": {"conv": "convolution_param.group"},
    "stride": {"conv": "convolution_param.stride", "pool": "pooling_param.stride"},
    "pool": {"pool": "pooling_param.pool"},
    "dropout_ratio": {"dropout": "dropout_param.dropout_ratio"},
    "local_size": {"lrn": "lrn_param.local_size"},
    "alpha": {"lrn": "lrn_param.alpha"},
    "beta": {"lrn": "lrn_param.beta"},
    "k": {"lrn": "lrn_param.k"},
    "batchsize": {"data": "data_param.batch_size", "images": "image_data_param.batch_size", "window_data": "window_data_param.batch_size"},
    "new_height": {"images": "image_data_param.new_height"},
    "new_width": {"images": "image_data_param.new_width"},
    "concat_dim": {"concat": "concat_param.concat_dim"},
}
_V0_ANYWHERE = {"cropsize": "transform_param.crop_size", "scale": "transform_param.scale", "meanfile": "transform_param.mean_file"}

_V1_SPECIAL = frozenset("layer bottom top name type include exclude param blob_share_mode blobs_lr weight_decay loss_weight".split())


def upgrade_v0_padding(layers: Sequence[caffe_pb2.V1LayerParameter], error: Callable[[int, str], FormatError]) -> list[int]:
    """Folds V0's padding layers into the conv or pool behind them; the indices of the layers that stay.

    error makes the FormatError for the layer of an index.
    """
    maker: dict[str, int] = {}
    for index, layer in enumerate(layers):
        for position, bottom in enumerate(layer.bottom):
            source = layers[maker[bottom]] if bottom in maker else None
            if source is None or source.layer.type != "padding":
                continue
            if layer.layer.type not in ("conv", "pool"):
                raise error(index, f"a padding layer may stand before conv and pool, not before '{layer.layer.type}'")
            if len(layer.bottom) != 1 or len(source.bottom) != 1 or len(source.top) != 1:
                raise error(index, "a padding layer and the layer behind it take one blob each")
            layer.layer.pad = source.layer.pad
            layer.bottom[position] = source.bottom[0]
        for top in layer.top:
            maker[top] = index
    return [index for index, layer in enumerate(layers) if layer.layer.type != "padding"]


def upgrade_v1(old: caffe_pb2.V1LayerParameter, unknown: list[Unknown]) -> caffe_pb2.LayerParameter:
    """Today's form of a V1 layer, or of the V0 layer within it. A type that V1 has no name for is taken as it is written."""
    new = caffe_pb2.LayerParameter(name=old.name, bottom=list(old.bottom), top=list(old.top))
    if old.HasField("layer"):
        _upgrade_v0(old.layer, new)
    elif old.HasField("type"):
        new.type = V1_TYPES[caffe_pb2.V1LayerParameter.LayerType.Name(old.type)]
    else:
        stray = next((u for u in unknown if u.path == "type"), None)
        if stray is not None:
            unknown.remove(stray)
            name = str(stray.field.value)
            new.type = _FORKS_TYPES.get(name, name)
    for descriptor, value in old.ListFields():
        if descriptor.name not in _V1_SPECIAL:
            getattr(new, descriptor.name).CopyFrom(value)
    new.include.extend(old.include)
    new.exclude.extend(old.exclude)
    new.loss_weight.extend(old.loss_weight)
    for index, name in enumerate(old.param):
        _param(new, index).name = name
    for index, mode in enumerate(old.blob_share_mode):
        _param(new, index).share_mode = mode
    return new


def _param(layer: caffe_pb2.LayerParameter, index: int) -> caffe_pb2.ParamSpec:
    while len(layer.param) <= index:
        layer.param.add()
    return layer.param[index]


def _upgrade_v0(old: caffe_pb2.V0LayerParameter, new: caffe_pb2.LayerParameter) -> None:
    new.name = old.name
    new.type = V0_TYPES.get(old.type, old.type)
    for descriptor, value in old.ListFields():
        place = _V0_FIELDS.get(descriptor.name, {}).get(old.type) or _V0_ANYWHERE.get(descriptor.name)
        if place is None:  # it means nothing for this type: Caffe goes on without it
            continue
        section, name = place.split(".")
        target = getattr(new, section)
        if descriptor.message_type is not None:
            getattr(target, name).CopyFrom(value)
        elif hasattr(getattr(target, name), "append"):
            getattr(target, name).append(value)
        else:
            setattr(target, name, value)
