"""The operators, a module per topic; importing this package registers them all."""

from converters.mxnet.operators import (  # noqa: F401
    activation,
    convolution,
    creation,
    detection,
    elementwise,
    image,
    indexing,
    matrix,
    normalisation,
    output,
    pooling,
    recurrent,
    reduction,
    sampling,
    sequence,
    shape,
    sorting,
)
