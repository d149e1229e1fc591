"""Writers that store the scalars, images and config of a run."""
