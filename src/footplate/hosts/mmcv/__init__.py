"""The names from mmcv 1.x that mmcv 2 no longer provides."""
