"""The tiny pretrained BLOOM and the SQuAD-format data of `nano`, and the scripts that made them."""
