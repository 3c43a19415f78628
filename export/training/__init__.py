"""For people who write trainers; the contract itself is `export.contracts.training`.

The run (`TrainingRun`), a PyTorch loop, callbacks for other libraries, and the check that two packages are the same.
Nothing heavy is imported here; torch and the others only by the modules that are about them.
"""
