"""Helpers from `mmengine` that code bases import, such as file access, progress bars and collectives."""
