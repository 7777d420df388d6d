"""What each operator of TensorFlow's computes, a file per topic."""
