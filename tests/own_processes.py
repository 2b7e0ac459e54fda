"""What tests run in processes of their own: to import it takes no more than torch."""

import os
import time

import torch

SWITCHES = [
    "",
    "cudnn",
    "cuda.matmul",
    "cudnn.conv",
    "cudnn.rnn",
    "mkldnn.matmul",
    "mkldnn.conv",
    "mkldnn.rnn",
]


def switch(name):
    place = torch.backends
    for part in filter(None, name.split(".")):
        place = getattr(place, part)
    return place


def precisions():
    return {name: switch(name).fp32_precision for name in SWITCHES}


def naps(common, seconds, report):
    report(os.getpid())
    time.sleep(seconds)
