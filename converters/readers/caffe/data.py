"""Inputs of a net: what Input layers declare, and what data layers of train_val files would give.

Sources: caffe/src/caffe/layers/{input,data,image_data,memory_data,hdf5_data,window_data}_layer.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from converters.errors import ConversionError, printable
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.prototxt import Net
from converters.readers.caffe.weights import Weights

DATA_LAYERS = frozenset(
    "Input Data ImageData MemoryData HDF5Data WindowData AnnotatedData VideoData DenseImageData ImageSegData SegData "
    "ImageLabelmapData".split()
)


class DataShapes:
    """Shapes of a net's inputs. `pending` are tops of data layers, which become inputs when a layer asks for them."""

    def __init__(self, net: Net, weights: Weights, inputs: Mapping[str, Sequence[int]]) -> None:
        self.net, self.weights, self.given = net, weights, inputs
        self.pending: dict[str, Layer] = {}
        names = {top for layer in net.layers for top in layer.tops}
        strange = [name for name in inputs if name not in names]
        if strange:
            possible = ", ".join(printable(top) for layer in net.layers if layer.type in DATA_LAYERS for top in layer.tops)
            raise ConversionError(f"{net.file}: a shape is given for '{strange[0]}', but the inputs are {possible or 'none'}")

    def tops(self, layer: Layer) -> Iterator[tuple[str, Sequence[int] | None]]:
        """Each top of an input or data layer with its shape; None for those of data layers, which stay pending."""
        if layer.type != "Input":
            for top in layer.tops:
                yield top, None
                self.pending[top] = layer
            return
        shapes = [list(shape.dim) for shape in layer.params.input_param.shape]
        if len(shapes) not in (0, 1, len(layer.tops)):
            raise layer.error(f"has {len(shapes)} shapes for {len(layer.tops)} tops; give one for each, or one for all")
        for index, top in enumerate(layer.tops):
            declared = shapes[min(index, len(shapes) - 1)] if shapes else None
            shape = self.given.get(top, declared)
            if shape is None:
                raise layer.error(
                    f"the file gives no shape for the input '{printable(top)}'; give it with --input {printable(top)}=1x3x224x224"
                )
            yield top, list(shape)

    def resolve(self, top: str, consumer: Layer) -> tuple[Layer, Sequence[int]]:
        """The data layer behind a pending top, and the shape of what it gives. Raises ConversionError where that is unknown."""
        layer = self.pending.pop(top)
        shape = self.given.get(top) or self._shape(layer, layer.tops.index(top), consumer)
        if shape is None:
            name = printable(top)
            raise layer.error(f"the shape of its top '{name}' depends on the data; give it with --input {name}=1x3x224x224")
        return layer, list(shape)

    def _shape(self, layer: Layer, position: int, consumer: Layer) -> Sequence[int] | None:
        params = layer.params
        if layer.type == "MemoryData":
            p = params.memory_data_param
            return [p.batch_size, p.channels, p.height, p.width] if position == 0 else [p.batch_size]
        section = {"Data": params.data_param, "ImageData": params.image_data_param, "WindowData": params.window_data_param}.get(layer.type)
        if section is None:
            return None
        batch = section.batch_size or 1
        if position:
            return [batch]
        crop = params.transform_param.crop_size or section.crop_size
        size = [crop, crop]
        if not crop and layer.type == "ImageData" and section.new_height and section.new_width:
            size = [section.new_height, section.new_width]
        channels = self._channels(layer, consumer)
        return [batch, channels, *size] if channels and all(size) else None

    def _channels(self, layer: Layer, consumer: Layer) -> int | None:
        if layer.type == "ImageData":
            return 3 if layer.params.image_data_param.is_color else 1
        blob = self.weights.find(self.net.layers.index(consumer), 0)
        if consumer.type == "Convolution" and blob is not None and len(blob.shape) == 4:
            return int(blob.shape[1] * consumer.params.convolution_param.group)
        return len(layer.params.transform_param.mean_value) or None
