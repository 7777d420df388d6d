"""What a model's original did to an image before its first layer, as data: numpy and Pillow alone."""

from converters.preprocessing.preprocess import Preprocess
from converters.preprocessing.recipes import RECIPES

__all__ = ["RECIPES", "Preprocess"]
