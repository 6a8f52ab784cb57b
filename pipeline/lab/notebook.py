"""What the course notebook printed when its authors ran it, kept to compare with."""

STEPS = 469
"""An epoch: 60,000 images in batches of 128."""

PRINT_EVERY_STEPS = 50
"""Ten losses an epoch: those of its steps 1, 51, … 451."""

LOSSES = (
    (8.802, 1.978, 1.763, 1.740, 1.593, 1.416, 1.329, 1.327, 1.212, 1.225),
    (1.243, 1.107, 1.132, 1.090, 0.964, 1.054, 0.994, 1.015, 1.008, 0.866),
    (0.880, 0.828, 0.950, 0.788, 0.828, 1.030, 0.889, 0.855, 0.814, 0.707),
    (0.846, 0.698, 0.962, 0.808, 0.608, 0.568, 0.803, 0.689, 0.795, 0.771),
    (0.743, 0.603, 0.647, 0.624, 0.589, 0.571, 0.610, 0.726, 0.561, 0.512),
)
"""The training losses of single batches, a row an epoch."""

ACCURACIES = (0.6232, 0.7089, 0.7560, 0.7811, 0.8086)
"""On the test images, after each epoch."""

FINAL_ACCURACY = ACCURACIES[-1]
