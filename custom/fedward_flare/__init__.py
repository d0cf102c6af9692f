"""The NVFLARE components of fedward: they carry values between hospitals and server and compute nothing."""
