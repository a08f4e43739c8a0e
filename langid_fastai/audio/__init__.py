"""Read audio: any file, FFmpeg container or raw stream to mono float32 samples."""
