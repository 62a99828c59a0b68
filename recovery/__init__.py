"""What failed, what could be done about it, and what is best: pure, without torch and Ray."""
