"""Lowerings of Caffe's layers, a file per topic."""
