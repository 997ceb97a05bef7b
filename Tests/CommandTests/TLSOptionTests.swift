import Foundation
import TestSupport
import Testing

@Suite("Where commands take certificates from", .timeLimit(.minutes(2)))
struct TLSOptionTests {
  private func folder(_ name: String) throws -> String {
    try GeneratedCertificates.directory(name)
  }

  @Test("serve --insecure-plaintext beside certificates of the environment answers both")
  func besidePlaintext() async throws {
    for environment in [
      ["GRENACHE_TLS_DIR": try folder("worker")],
      [
        "GRENACHE_TLS_CERT": try folder("worker") + "/cert.pem",
        "GRENACHE_TLS_KEY": try folder("worker") + "/key.pem",
        "GRENACHE_TLS_CA": try folder("worker") + "/ca.pem",
      ],
    ] {
      let worker = try RunningCommand(
        Programs.grenache,
        [
          "serve", "rpc_test", "--port", "0", "--json", "--reply", "world", "--no-announce",
          "--insecure-plaintext",
        ], environment: environment)
      let address = "127.0.0.1:" + port(of: member("address", of: await worker.firstLine()))
      for security in [["--insecure-plaintext"], ["--tls-dir", try folder("client")]] {
        let reply = try await run(
          Programs.grenache, ["call", "rpc_test", "hello", "--to", address] + security)
        #expect(reply.output == "world", "\(security): \(reply.errors)")
      }
      #expect(await worker.terminate() == 0)
    }
  }

  @Test("who only speaks in the clear has no certificates, wherever they come from")
  func exclusive() async throws {
    let call = ["call", "a", "1", "--to", "127.0.0.1:1", "--insecure-plaintext"]
    let named = try await run(Programs.grenache, call + ["--tls-dir", try folder("client")])
    #expect(named.status == 64 && named.errors.contains("exclude"), "\(named.errors)")
    let found = try await run(
      Programs.grenache, call, environment: ["GRENACHE_TLS_DIR": try folder("client")])
    #expect(found.status == 64, "\(found.errors)")
    #expect(found.errors.contains("unset GRENACHE_TLS_DIR"), "\(found.errors)")
  }

  @Test("a folder and files exclude each other: the folder's crl.pem would be forgotten")
  func folderAndFiles() async throws {
    let client = try folder("client")
    for files in [
      ["--tls-cert", "\(client)/cert.pem"],
      [
        "--tls-cert", "\(client)/cert.pem", "--tls-key", "\(client)/key.pem", "--tls-ca",
        "\(client)/ca.pem",
      ],
    ] {
      let ended = try await run(
        Programs.grenache, ["call", "a", "1", "--to", "127.0.0.1:1", "--tls-dir", client] + files)
      #expect(ended.status == 64 && ended.errors.contains("--tls-dir and"), "\(ended.errors)")
    }
  }

  @Test("GRENACHE_TLS_CRL is enforced beside options, too, unless --tls-crl names another one")
  func revocationLists() async throws {
    let worker = try RunningCommand(
      Programs.grenache,
      [
        "serve", "rpc_test", "--port", "0", "--json", "--reply", "world", "--no-announce",
        "--tls-dir", try folder("revoked"),
      ])
    let address = "127.0.0.1:" + port(of: member("address", of: await worker.firstLine()))
    let client = try folder("client")
    let call = ["call", "rpc_test", "hello", "--to", address]
    let environment = ["GRENACHE_TLS_CRL": try folder("ca") + "/crl.pem"]
    for options in [
      ["--tls-dir", client],
      [
        "--tls-cert", "\(client)/cert.pem", "--tls-key", "\(client)/key.pem", "--tls-ca",
        "\(client)/ca.pem",
      ],
    ] {
      let trusting = try await run(Programs.grenache, call + options)
      #expect(trusting.output == "world", "\(trusting.errors)")
      let checking = try await run(Programs.grenache, call + options, environment: environment)
      #expect(checking.status == 77 && checking.errors.contains("revoked"), "\(checking.errors)")
    }
    let elsewhere = try await run(
      Programs.grenache, call + ["--tls-dir", client, "--tls-crl", "/nowhere/crl.pem"],
      environment: environment)
    #expect(elsewhere.status == 78 && elsewhere.errors.contains("/nowhere/crl.pem"))
    #expect(await worker.terminate() == 0)
  }
}
