"""Trains one config of every family of the OpenMMLab code bases for two steps."""
