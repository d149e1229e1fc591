"""Commands for OpenMMLab code."""
