"""The parts of a transfer: its labelled pictures, how it learns from them, what it then says of pictures."""
