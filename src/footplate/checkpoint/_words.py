"""Formats sizes for messages."""


def readable_size(count: int) -> str:
    """Formats a number of bytes in the largest unit in which it is at least 1.

    Example:
        >>> readable_size(999), readable_size(1_234_567)
        ('999 B', '1.2 MB')
    """
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
