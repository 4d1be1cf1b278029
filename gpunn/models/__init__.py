"""Ready networks, built from :mod:`gpunn.nn`."""

from gpunn.models.alexnet import AlexNet, TwoTowerAlexNet, alexnet, merge_towers, split_towers
from gpunn.models.lenet import lenet, lenet5
from gpunn.models.mlp import mlp
from gpunn.models.resnet import ResNet, resnet18, resnet50
from gpunn.models.sequence import CharacterModel, SequenceClassifier, SequenceDecoder
from gpunn.models.squeezenet import SqueezeNet, squeezenet
from gpunn.models.vgg import VGG, vgg11, vgg16

__all__ = [
    "VGG",
    "AlexNet",
    "CharacterModel",
    "ResNet",
    "SequenceClassifier",
    "SequenceDecoder",
    "SqueezeNet",
    "TwoTowerAlexNet",
    "alexnet",
    "lenet",
    "lenet5",
    "merge_towers",
    "mlp",
    "resnet18",
    "resnet50",
    "split_towers",
    "squeezenet",
    "vgg11",
    "vgg16",
]
