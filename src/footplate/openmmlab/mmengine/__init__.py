"""The helpers of `mmengine` that code bases import, such as file access, progress bars and collectives."""
