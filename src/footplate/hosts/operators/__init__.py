"""The operators of `mmcv._ext`, in PyTorch: they run on any device, without a compiler."""
