"""Ready networks, built from :mod:`gpunn.nn`."""

from gpunn.models.alexnet import (
    AlexNet,
    AlexNetTower,
    TwoTowerAlexNet,
    alexnet,
    gather_towers,
    merge_towers,
    split_towers,
    tower_state,
)
from gpunn.models.lenet import lenet, lenet5
from gpunn.models.mlp import mlp
from gpunn.models.resnet import ResNet, resnet18, resnet50
from gpunn.models.sequence import CELLS, CharacterModel, SequenceClassifier, SequenceDecoder
from gpunn.models.squeezenet import SqueezeNet, squeezenet
from gpunn.models.vgg import VGG, vgg11, vgg16

__all__ = [
    "CELLS",
    "VGG",
    "AlexNet",
    "AlexNetTower",
    "CharacterModel",
    "ResNet",
    "SequenceClassifier",
    "SequenceDecoder",
    "SqueezeNet",
    "TwoTowerAlexNet",
    "alexnet",
    "gather_towers",
    "lenet",
    "lenet5",
    "merge_towers",
    "mlp",
    "resnet18",
    "resnet50",
    "split_towers",
    "squeezenet",
    "tower_state",
    "vgg11",
    "vgg16",
]
