"""Many runs compared: running them, reading them, curves, and the page that shows them."""
