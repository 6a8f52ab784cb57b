"""What training is made of: device, checkpoint, movement of images, steps of the optimizer."""
