"""The parts of `tinct pretrain`, from the first look at the pictures to what a finished run leaves."""
