"""What do several people's answers about an item say together? One file per kind of answer; all of it is pure."""
