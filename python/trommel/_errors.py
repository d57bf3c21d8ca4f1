"""What can be wrong with a shard."""


class ShardError(Exception):
    """A shard that could not be read as it was asked for; the message names it and the place."""


class ShardUnavailable(ShardError, OSError):
    """Its bytes could not be had: it is gone, cannot be read, or has another size than when it was listed."""


class ShardChanged(ShardError, ValueError):
    """It is not the shard that the split was made from."""


class ShardDamaged(ShardError, ValueError):
    """Samples of it are lost: it is cut off, holds no tar, or members of it cannot be read. Whole samples have been given by then."""
