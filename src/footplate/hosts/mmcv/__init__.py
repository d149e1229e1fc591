"""The names of mmcv 1.x that mmcv 2 no longer has."""
