"""The names of mmcv 1.x that mmcv 2 does not have."""
