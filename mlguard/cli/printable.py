"""Words of strangers on a terminal: what could command it is written out."""


def printable(text: str) -> str:
    r"""Write out every character that does not simply show itself.

    A refusal names files, fields and values that a stranger may have chosen. An escape
    sequence among them could hide what was said, a line break forge what was not.

    Example:
        >>> printable("a\x1b[2Jb\n")
        'a\\x1b[2Jb\\n'
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
