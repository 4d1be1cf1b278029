"""Data sets, readers of files, and loaders that make minibatches of them.

One file per data set; each gives plain NumPy arrays: float32 points (N, D), or images (N, C, H, W) in [0, 1], and int64
labels (N,). Readers give what a file holds, and refuse a damaged one with its path, the place and the cause.
"""

from gpunn.data.augment import colour_components, colour_jitter, jitter, normalise, random_crop, random_flip
from gpunn.data.cifar import cifar10, cifar100, read_cifar10, read_cifar100
from gpunn.data.circles import circles
from gpunn.data.collate import default_collate
from gpunn.data.csv_table import CsvTable, read_csv
from gpunn.data.dataset import ArrayDataset, ConcatDataset, Dataset, MapDataset, Subset, random_split
from gpunn.data.digits import digits
from gpunn.data.idx import read_idx
from gpunn.data.image import read_image
from gpunn.data.image_files import ImageFiles, ImageFolder, drop_unreadable, image_folder
from gpunn.data.loader import DataLoader
from gpunn.data.mnist import fashion_mnist, mnist
from gpunn.data.npy import NpyDataset, read_npy, read_npz
from gpunn.data.sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler, WeightedRandomSampler

__all__ = [
    "ArrayDataset",
    "BatchSampler",
    "ConcatDataset",
    "CsvTable",
    "DataLoader",
    "Dataset",
    "ImageFiles",
    "ImageFolder",
    "MapDataset",
    "NpyDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "WeightedRandomSampler",
    "cifar10",
    "cifar100",
    "circles",
    "colour_components",
    "colour_jitter",
    "default_collate",
    "digits",
    "drop_unreadable",
    "fashion_mnist",
    "image_folder",
    "jitter",
    "mnist",
    "normalise",
    "random_crop",
    "random_flip",
    "random_split",
    "read_cifar10",
    "read_cifar100",
    "read_csv",
    "read_idx",
    "read_image",
    "read_npy",
    "read_npz",
]
