"""What becomes of a network's accuracy when images or labels are worse than those it was built on.

- `corruptions`: noise, blur, contrast, brightness, compression, pixelation and rotation.
- `attacks`: images changed on purpose, FGSM and PGD.
- `label_noise`: training on labels of which some are wrong.
- `measured`: all of the first two for one network, as one value.
- `search`: the same as metrics of a search.
"""
