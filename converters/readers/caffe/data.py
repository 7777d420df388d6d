"""Inputs of a net: what Input layers declare, and what data layers of train_val files would give.

Sources: caffe/src/caffe/layers/{input,data,image_data,memory_data,hdf5_data,window_data}_layer.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from converters.errors import ConversionError, printable
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.prototxt import Net
from converters.readers.caffe.registry import lowers
from converters.readers.caffe.weights import Weights
from converters.registry import NoFacts, Registry
from converters.schemas import caffe_pb2

Shape = Sequence[int]
TopShape = Callable[[Layer, int, int | None], Shape | None]
"""(layer, position of the top, channels where the net tells them) -> the top's shape; None where it depends on the data."""

gives: Registry[TopShape, NoFacts] = Registry("Caffe data layer", NoFacts)


@gives("Input")
def input_layer(layer: Layer, position: int, channels: int | None) -> Shape | None:
    """A shape for each top, or one for all. Source: caffe/src/caffe/layers/input_layer.cpp."""
    shapes = layer.params.input_param.shape
    if len(shapes) not in (0, 1, len(layer.tops)):
        raise layer.error(f"has {len(shapes)} shapes for {len(layer.tops)} tops; give one for each, or one for all")
    return list(shapes[min(position, len(shapes) - 1)].dim) if shapes else None


@gives("MemoryData")
def memory_data(layer: Layer, position: int, channels: int | None) -> Shape | None:
    """Arrays of a program, all sizes stated. Source: caffe/src/caffe/layers/memory_data_layer.cpp."""
    p = layer.params.memory_data_param
    return [p.batch_size] if position else [p.batch_size, p.channels, p.height, p.width]


@gives("Data")
def data(layer: Layer, position: int, channels: int | None) -> Shape | None:
    """Images of a database, cropped. Source: caffe/src/caffe/layers/data_layer.cpp."""
    p = layer.params.data_param
    return _images(layer, position, p.batch_size, channels, p.crop_size)


@gives("ImageData")
def image_data(layer: Layer, position: int, channels: int | None) -> Shape | None:
    """Image files, resized or cropped. Source: caffe/src/caffe/layers/image_data_layer.cpp."""
    p = layer.params.image_data_param
    return _images(layer, position, p.batch_size, 3 if p.is_color else 1, p.crop_size, p.new_height, p.new_width)


@gives("WindowData")
def window_data(layer: Layer, position: int, channels: int | None) -> Shape | None:
    """Windows of images, cropped. Source: caffe/src/caffe/layers/window_data_layer.cpp."""
    p = layer.params.window_data_param
    return _images(layer, position, p.batch_size, channels, p.crop_size)


@gives("VideoData", "VolumeData")
def video_data(layer: Layer, position: int, channels: int | None) -> Shape | None:
    """Clips of new_length images, cropped. Source: C3D 1.0's video_data_layer.cpp; SSD's gives what its camera gives."""
    p = layer.params.image_data_param
    if position:
        return [p.batch_size]
    return [p.batch_size, 3, p.new_length, p.crop_size, p.crop_size] if p.new_length and p.crop_size else None


@gives("HDF5Data", "AnnotatedData", "DenseImageData", "ImageSegData", "SegData", "ImageLabelmapData", "MatRead", "VideoSegmentationData")
def other_data(layer: Layer, position: int, channels: int | None) -> Shape | None:
    """What lies in the files. Source: caffe/src/caffe/layers/hdf5_data_layer.cpp; SSD's annotated_data_layer.cpp and other forks'."""
    return None


def _images(
    layer: Layer, position: int, batch: int, channels: int | None, crop: int, height: int = 0, width: int = 0
) -> Sequence[int] | None:
    """(N, C, H, W), or (N) for the labels."""
    if position:
        return [batch or 1]
    crop = layer.params.transform_param.crop_size or crop
    size = [crop, crop] if crop or not (height and width) else [height, width]
    return [batch or 1, channels, *size] if channels and all(size) else None


def is_data(layer: Layer) -> bool:
    """Whether a layer gives what goes into the net: a data layer, or one of an unknown type that takes nothing."""
    return layer.type in gives or (not layer.bottoms and layer.type not in lowers)


def scales_its_data(layer: Layer) -> bool:
    """Whether the layer changes the numbers of its images, which a converted net doesn't."""
    p: caffe_pb2.TransformationParameter = layer.params.transform_param
    return p.HasField("scale") or bool(p.mean_value) or p.HasField("mean_file")


class DataShapes:
    """Shapes of a net's inputs. `pending` are tops of data layers, which become inputs when a layer asks for them.

    inputs: the shapes that are given, by the name of the input; "" is the only one.
    """

    def __init__(self, net: Net, weights: Weights, inputs: Mapping[str, Shape]) -> None:
        self.net, self.weights = net, weights
        self.pending: dict[str, Layer] = {}
        data_layers = [layer for layer in net.layers if is_data(layer)]
        self.given = dict(inputs)
        names = {top for layer in net.layers for top in layer.tops}
        strange = [name for name in inputs if name and name not in names]
        if strange:
            possible = ", ".join(printable(top) for layer in data_layers for top in layer.tops)
            raise ConversionError(f"a shape is given for '{printable(strange[0])}', but the inputs are {possible or 'none'}", path=net.file)
        if "" in self.given:
            declared = [top for layer in data_layers if layer.type == "Input" for top in layer.tops]
            possible_names = declared or [layer.tops[0] for layer in data_layers if layer.tops]
            possible_names = possible_names or [layer.tops[0] for layer in net.layers if layer.type == "DummyData" and layer.tops]
            if len(possible_names) != 1:
                words = ", ".join(map(printable, possible_names))
                message = f"a shape is given without a name, but there are {len(possible_names)} inputs"
                raise ConversionError(message + (f": {words}" if words else ""), path=net.file, hint="write --input NAME=1x3x224x224")
            self.given[possible_names[0]] = self.given.pop("")

    def tops(self, layer: Layer) -> Iterator[tuple[str, Shape | None]]:
        """Each top of an input or data layer with its shape; None for those of data layers, which stay pending."""
        for position, top in enumerate(layer.tops):
            if layer.type != "Input":
                yield top, None
                self.pending[top] = layer
                continue
            shape = self.given.get(top) or input_layer(layer, position, None)
            if shape is None:
                name = printable(top)
                raise layer.error(f"the file gives no shape for the input '{name}'; give it with --input {name}=1x3x224x224")
            yield top, list(shape)

    def resolve(self, top: str, consumer: Layer) -> tuple[Layer, Shape]:
        """The data layer behind a pending top, and the shape of what it gives. Raises ConversionError where that is unknown."""
        layer = self.pending.pop(top)
        shape = self.given.get(top)
        if shape is None and layer.type in gives:
            shape = gives[layer.type](layer, layer.tops.index(top), self._channels(layer, consumer))
        if shape is None:
            name = printable(top)
            raise layer.error(f"the shape of its top '{name}' depends on the data; give it with --input {name}=1x3x224x224")
        return layer, list(shape)

    def _channels(self, layer: Layer, consumer: Layer) -> int | None:
        """The channels of a data layer's images: those that the convolution behind it takes, or one for each of several means."""
        blob = self.weights.find(self.net.layers.index(consumer), 0)
        if consumer.type == "Convolution" and blob is not None and len(blob.shape) == 4:
            return int(blob.shape[1] * consumer.params.convolution_param.group)
        means = len(layer.params.transform_param.mean_value)
        return means if means > 1 else None  # one mean is for all channels, however many there are
