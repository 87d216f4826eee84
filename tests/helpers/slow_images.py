"""A data set that takes its time, so that there is some to end a process in: `--data.source` is its path."""

import os
import time

import torch


class Slow(torch.utils.data.Dataset):
    """24 images of noise without classes. Each takes $SLOWLY seconds to read."""

    def __init__(self, path, size, channels, split):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(256, (24, channels, *size), dtype=torch.uint8, generator=generator)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        time.sleep(float(os.environ.get("SLOWLY", "0")))
        return self.images[index], 0
