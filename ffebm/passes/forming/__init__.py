"""How energy blocks are formed: linear maps, what layers are made of, and which of them settle together."""
