"""What this machine allows and asks for: threads, precision, torch's compiler, several processes, files that last."""
