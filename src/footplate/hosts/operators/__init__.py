"""The operators of `mmcv._ext`, implemented in PyTorch. They run on any device and need no compiler."""
