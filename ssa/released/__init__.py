"""Names and files of the released code: weights, conversion, keys."""
