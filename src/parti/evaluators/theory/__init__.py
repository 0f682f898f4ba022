"""What a network's structure and weights say without looking at its accuracy."""
