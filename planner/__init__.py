"""Plans, programs and their cost: pure Python on numpy and scipy, without torch and without Ray."""
