"""Networks whose weights several tasks share: what is shared and what each task has of its own is told apart by name."""

GROWING = ("vgg16_bn", "cnn", "sphere20", "mlp")
FIXED = ("resnet18", "resnet50")  # have one width
