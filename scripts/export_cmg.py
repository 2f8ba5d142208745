"""Write a CMG as ONNX or TorchScript: `cmg-export` without installing it."""

from cmg_ref.cli.export import main

if __name__ == "__main__":
    main()
