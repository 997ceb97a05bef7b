import GrenacheFraming
import GrenacheTLS
import Testing

@testable import Grenache
@testable import GrenacheGrape
@testable import GrenacheTransport

/// Figures that are promised and that tests of limits set to others: here they are as they are promised.
@Suite("Defaults are those that are promised")
struct PromisedDefaultsTests {
  /// A server by itself, and as services and publishers have it.
  private static var servers: [HTTPServerConfiguration] {
    let tls = TLSConfiguration.directory("/nowhere")
    return [
      HTTPServerConfiguration(), PeerRPCServerConfiguration(port: 0, tls: tls).transport,
      PeerPubConfiguration(port: 0, tls: tls).transport,
    ]
  }

  @Test("P3 handshakes: 5 s, 256 at once on one loop")
  func handshakes() {
    for server in Self.servers {
      #expect(server.stream.handshakeTimeout == .seconds(5))
      #expect(server.handshakesMax == 256)
    }
  }

  @Test("P4 P5 heads: 10 s, 16 KiB, 100 fields, 8 KiB a line")
  func heads() {
    for server in Self.servers {
      #expect(server.headTimeout == .seconds(10))
      #expect(server.http.headBytesMax == 16 << 10)
      #expect(server.http.fieldsMax == 100)
      #expect(server.http.lineBytesMax == 8 << 10)
    }
  }

  @Test("P6 bodies and messages: 1 MiB, and 1 KiB/s after 10 s")
  func bodies() {
    let rate = ReceiptRate(grace: .seconds(10), bytesPerSecondMin: 1 << 10)
    for server in Self.servers {
      #expect(server.http.bodyBytesMax == 1 << 20)
      #expect(server.bodyRate == rate)
      #expect(server.webSocket.messageRate == rate)
    }
  }

  @Test("P7 what inflates: a hundred times, whatever the encoding")
  func inflation() {
    #expect(InflateLimits(outputBytesMax: 1).ratioMax == 100)
    for server in Self.servers { #expect(server.webSocketOptions.deflate?.ratioMax == 100) }
  }

  @Test("P8 P10 WebSockets: 128 fragments, 1 MiB a message, 100 control frames in 10 s")
  func webSockets() {
    let all =
      Self.servers.map(\.webSocket) + [
        PeerRPCClientConfiguration().webSocket, PeerSubConfiguration().webSocket,
      ]
    for limits in all {
      #expect(limits.fragmentsMax == 128)
      #expect(limits.messageBytesMax == 1 << 20)
      #expect(limits.controlFramesMax == 100)
      #expect(limits.controlWindow == .seconds(10))
    }
  }

  @Test("P11 100 calls of a connection in flight; P13 JSON 64 deep; P39 30 s to drain")
  func calls() {
    let server = PeerRPCServerConfiguration(port: 0, tls: .directory("/nowhere"))
    #expect(server.callsPerConnectionMax == 100)
    #expect(server.drainTimeout == .seconds(30))
    #expect(JSONScanner.depthMax == 64)
    #expect(GrapeRequest.depthMax == 64)
  }

  @Test("P34 a retry for ten calls; two at most of one; five workers are kept connected")
  func retries() {
    let client = PeerRPCClientConfiguration()
    #expect(client.retryRatio == 0.1)
    #expect(client.retriesMax == 2)
    #expect(client.activeWorkersMax == 5)
  }

  @Test("P36 a stalled subscriber: 1 MiB in all")
  func subscribers() {
    let publisher = PeerPubConfiguration(port: 0, tls: .directory("/nowhere"))
    // As much again as one message may be on its way, and as the output takes.
    let held = 2 * publisher.queueBytesMax + PeerPubConfiguration.outputHighWaterBytes
    #expect(held <= 1 << 20)
  }
}
