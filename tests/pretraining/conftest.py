"""One thread for every test that trains: on few cores, idle threads that wait for others cost more than they give."""

import torch

torch.set_num_threads(1)
