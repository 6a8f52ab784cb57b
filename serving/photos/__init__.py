"""Makes images of photographs and drawings, as MNIST's were made of scans."""
