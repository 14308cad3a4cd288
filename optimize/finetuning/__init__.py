"""Short fine-tuning of a program that a stage changed, with the program before it as the teacher.

`optimize.finetuning.distil` has the loop; `optimize.finetuning.trainable` opens programs for it.
"""
