internal import GrenacheIO

/// What speaks over a byte stream. All calls are on the stream's loop.
protocol ByteStreamDelegate: AnyObject {
  /// The stream is ready: connected and, with TLS, both sides verified.
  func streamOpened(on loop: isolated EventLoop)
  /// Plaintext has come. `bytes` holds everything not consumed yet; the delegate returns how many
  /// bytes from its start it is done with. Without consuming anything it is called again when more
  /// has come, or when `resumeReading` asks for it.
  func streamReceived(_ bytes: inout MutableSpan<UInt8>, on loop: isolated EventLoop) -> Int
  /// The peer has closed its direction in order; what it sent has been handed over.
  func streamEnded(on loop: isolated EventLoop)
  /// Enough of the output has been sent for more to be welcome again.
  func streamDrained(on loop: isolated EventLoop)
  /// All output has been sent, as `tellWhenEmpty` asked to be told.
  func streamEmptied(on loop: isolated EventLoop)
  /// A changed policy allows the peer nothing any more. Returns whether the delegate tells the peer why
  /// and closes; otherwise the stream breaks off.
  func streamRefused(_ error: TransportError, on loop: isolated EventLoop) -> Bool
  /// The stream is closed; nothing follows. `error` is `nil` when this side closed it.
  func streamClosed(_ error: TransportError?, on loop: isolated EventLoop)
}

extension ByteStreamDelegate {
  func streamEmptied(on loop: isolated EventLoop) {}
  func streamRefused(_ error: TransportError, on loop: isolated EventLoop) -> Bool { false }
}

/// The limits of a byte stream.
package struct ByteStreamLimits: Hashable, Sendable {
  /// How long the TLS handshake may take, from the first byte possible to the last (default 5 s; of a
  /// client: as long as it was given to connect).
  package var handshakeTimeout = Duration.seconds(5)
  /// How long the peer may take for what the kernel was offered at once, at most 160 KiB
  /// (default 30 s).
  package var writeStallTimeout = Duration.seconds(30)
  /// How long the peer may take to close its side after this side has closed (default 2 s).
  package var closeTimeout = Duration.seconds(2)
  /// With more output than this waiting, a server stops reading from the peer (default 1 MiB).
  package var outputHighWaterBytes = 1 << 20
  /// With less than this waiting, reading goes on (default 256 KiB).
  package var outputLowWaterBytes = 256 << 10
  /// Bytes that the kernel may hold of what the peer has not confirmed, about, and as much again for its own
  /// accounts (`SO_SNDBUF`); it is what one round trip may carry. By default as many as the system thinks
  /// fit: up to megabytes, for a peer that does not read.
  package var sendBufferBytes: Int?
  /// The same for what has come and was not read (`SO_RCVBUF`), which is what the peer may send ahead. Only
  /// of clients: it counts from before they connect.
  package var receiveBufferBytes: Int?

  package init() {}
}
