"""Ways of dividing a budget between arms."""
