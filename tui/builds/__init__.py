"""What the build screens show, apart from any screen: pure, and bounded in what it holds."""
