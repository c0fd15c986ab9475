"""The tensors of these tests are small: several threads a product only wait for each other."""

import torch

torch.set_num_threads(1)
