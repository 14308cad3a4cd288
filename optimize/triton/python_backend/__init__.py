"""What runs inside Triton's Python backend; `model.py` is copied into every deployed version."""
