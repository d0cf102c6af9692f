"""What people decide: a coordinator proposes a job, a hospital disposes in its site file."""
